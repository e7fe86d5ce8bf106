"""`python -m pipeline` is `gpucapt`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
