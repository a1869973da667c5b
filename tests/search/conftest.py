from conftest_studies import database, postgresql, run, storage  # noqa: F401  (fixtures)
