"""`neva ui`: one page that follows jobs while they run, read from ledgers and the cluster's API.

    cli      arguments, socket, server
    app      routes, headers, the stream of events
    watch    one look at a time for all who watch, and none when nobody does
    local, cluster    where jobs are found
    bounded  files of others are read up to a size
    reader   one run: its status, newest answers, failures, history
    view     what is shown, as plain values; timeline has the chart's numbers
    page     HTML of it

It only reads: no route changes anything, and nothing here writes to a store or a cluster.
"""
