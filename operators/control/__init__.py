"""Control of a site: from forecasts, prices and device states to setpoints that are safe. Pure: no Flink, no Kafka.

`site` and `tariff` read the messages of topic `sites`; `plan` optimises a day ahead (HiGHS); `guard` reacts between two
plans; `checker` proves both, and shares no code with either; `policies` are what a simulation compares.
"""
