"""Says where it runs. Its words come from the workdir, its place from the environment."""

import os
from pathlib import Path

rank = os.environ["STIX_NODE_RANK"]
addresses = os.environ["STIX_NODE_IPS"].split()
words = Path("words.txt").read_text(encoding="utf-8").strip()

print(f"{os.environ['GREETING']} from rank {rank} of {len(addresses)}: {words}")
if rank == "0":
    for number, address in enumerate(addresses):
        print(f"  rank {number} is at {address}")
