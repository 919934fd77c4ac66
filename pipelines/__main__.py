"""`python -m pipelines` is `cnn`."""

from pipelines.cli.main import main

if __name__ == "__main__":
    main()
