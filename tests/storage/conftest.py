from conftest_studies import (  # noqa: F401  (fixtures)
    database,
    postgresql,
    run,
    storage,
    unknown_schema,
)
