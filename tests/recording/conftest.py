"""Pickers whose decisions are recorded, in processes of their own and in this one."""

from epp.conftest import host, start_picker, start_process
from hermetic.conftest import pb

__all__ = ["host", "pb", "start_picker", "start_process"]
