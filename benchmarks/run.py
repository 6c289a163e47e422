"""The benchmarks: one command for all of them.

python benchmarks/run.py --tier smoke        # everything, in under three minutes, into a temporary folder
python benchmarks/run.py --tier small        # everything, within an hour on two cores
python benchmarks/run.py --tier full         # everything, on a GPU where there is one
python benchmarks/run.py quality --only umls-complex --variant live --seeds 5
python benchmarks/run.py quality --only umls-complex --variant live --export umls.json
"""

from suite.cli import main

if __name__ == "__main__":
    main()
