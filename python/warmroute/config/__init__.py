"""Configuration of the picker: flags, the EndpointPickerConfig file, and what the engine is told.

The way of a file:

- `read`: from where it is given, through all of the below, to a `plan`;
- `document`, `scalars`: YAML that remembers its lines;
- `load`: every check that a file needs no defaults for (`models`, `sections`, `feature_gates`, `parameters`), with `errors`, `hints` and `notices`;
- `defaults`: the rules for what it leaves unsaid (`profiles`, `producers`, `data_layer`), working on a `resolution`;
- `describe`, `effective`: what that comes to, as a file again; `changes`: what differs between two;
- `settings`: what engine and scraper are told; `trial`: whether they take it.

Which types of plugins there are: `known_types` (all), `plugins` (those that run in this package), `reference_types` (names to refuse as not here yet);
`catalogue`, `catalogue_page`: how they are told to people.
"""
