"""Quality filters: `measure(block)` gives a number for each text, `LIMITS` the range in which a text is kept.

The recipe may give other limits or switch one off. Sources: Gopher (Rae et al., arXiv 2112.11446, appendix A), C4 (Raffel et al., arXiv
1910.10683), FineWeb (Penedo et al., arXiv 2406.17557).
"""
