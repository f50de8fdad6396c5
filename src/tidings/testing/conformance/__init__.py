"""What every engine must do, as test cases driven through the clients as a user would.

    pytest --pyargs tidings.testing.conformance --engine-url=URL

Each case runs through both clients. A case that needs a `Capability` which the engine does not declare is left out and
listed at the end of the run; `test_capabilities` then checks that the engine refuses the feature by name. The engine is
given fresh topic and group names, and for `memory:` and `file:` a fresh bus per case; without `--engine-url` these two
are tested. The installed distribution must know the option: see the entry point `pytest11` of tidings.
"""
