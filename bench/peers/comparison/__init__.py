"""The comparison with other gateways: what is run, how it is measured, and what is written about it."""
