"""One run in several processes, started by torchrun: each owns some of the classes.

`environment` says what torchrun told, `group` is how processes speak to each other, `failing` what
happens when one of them fails, `classes` who owns what, `running` what a run asks of them, and
`jobs` spreads lists of independent work.
"""
