"""The standard classes: what an exchange lists when it opens."""

from gateways.cli.facts import rows
from schemas.attributes import ClassSpec


def standard_classes() -> list[ClassSpec]:
    """Every class that sellers' names tell without doubt, with the default terms."""
    return [
        ClassSpec(row["class_id"], row["accelerator"], int(row["memory_gb"]), row["form_factor"])
        for row in rows("classes.csv")
    ]
