"""``python -m tftas_optuna``."""

from tftas_optuna.cli import main

if __name__ == "__main__":
    main()
