"""How a base is pretrained: each file gives `build(recipe, corpus)`, a network, `prepare(rows, done, rng, setting) -> Prepared`, what one
step learns from, and `loss(network, batch, places)`, the summed loss of some of its rows.

`NETWORKS`: the kinds of network that it trains; `DATA`: "text" or "images"; `WHOLE`: a step's rows are never taken in pieces, since the
loss compares them with each other.
"""
