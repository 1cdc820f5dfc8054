"""``python -m rllib_risk`` is the ``rllib`` command."""

from rllib_risk.cli.main import main

if __name__ == "__main__":
    main()
