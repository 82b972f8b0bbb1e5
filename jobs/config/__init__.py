"""Configuration of sites, meters and assets: read and checked (`schema`), written to tables and topics (`apply`)."""
