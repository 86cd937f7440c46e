"""The inference engine: rank processes, how they are started, and how clients talk to them.

`protocol`, `client` and `launch` import no torch: Celery children and the supervisor use them.
Everything else lives inside the rank processes.
"""
