"""What every engine must do, as test cases driven through the clients as a user would.

    pytest --pyargs tidings.testing.conformance --engine-url=URL

Each case runs through both clients. A case that needs a `Capability` which the engine does not declare is left out and
counted at the end of the run (listed with `-v`); `test_capabilities` then checks that the engine refuses the feature by
name. The engine is given fresh topic and group names, and where that costs little a fresh bus per case. Without
`--engine-url` all engines are tested whose drivers and brokers are installed: the brokers are started for it, as they
are for a URL that is only `nats:`, `redis:` or `amqp:`. The installed distribution must know the option: see the entry
point `pytest11` of tidings.
"""
