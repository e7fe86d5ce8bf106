"""The drop folder: plan what has arrived, caption it shard by shard, then move it away.

What to do is always what lies in INCOMING: an input leaves it when its outputs are there, and not before. So
each step may be killed at any point and run again, and what arrives meanwhile is for the next round.
"""
