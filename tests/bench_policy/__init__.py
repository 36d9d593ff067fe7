"""The bench of the policies under real load: that its parts are right, and that all of it runs."""
