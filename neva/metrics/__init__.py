"""What the processes count for Prometheus: `catalog` says what there is, `counting` counts it,
`export` hands it out.

Any process counts with `count`; it costs a dictionary and imports nothing. The processes of one pod
leave their sums in small files, which the one with the port adds up. Where no port is set (`neva
run` on a laptop) nothing is written.
"""
