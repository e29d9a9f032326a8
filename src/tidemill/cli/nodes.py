"""How `tidemill get nodes` shows the machines that run tasks."""

from collections.abc import Sequence

from tidemill.cli import output
from tidemill.cli.output import Column
from tidemill.sdk import Node, NodeProtection


def print_nodes(nodes: Sequence[Node]) -> None:
    """A table of nodes; a hint for each protection that one lacks, with how to get it, once for all that lack it."""
    now = output.wall_clock()
    columns = (
        *(Column("ID"), Column("REGION", spare=True), Column("ISOLATION")),
        *(Column("SLOTS", numeric=True), Column("MEMORY", numeric=True)),
        *(Column("SEEN", spare=True), Column("MISSING", long=True)),
    )
    rows = [
        (
            node["id"],
            node.get("region") or "-",
            node.get("isolation") or "-",
            str(node.get("slots", 0)),
            f"{node.get('memory', 0)} MB",
            output.ago(node.get("seenAt"), now),
            ", ".join(each["name"] for each in _missing(node)) or "-",
        )
        for node in nodes
    ]
    output.print_table(columns, rows)
    for line in dict.fromkeys(_remedy(each) for node in nodes for each in _missing(node)):
        output.hint(line)


def _missing(node: Node) -> list[NodeProtection]:
    return [each for each in node.get("protections") or [] if not each.get("active")]


def _remedy(lacked: NodeProtection) -> str:
    """``own_uid: the server is not root; run it as root``: as doctor says it."""
    said = "; ".join(filter(None, (lacked.get("says"), lacked.get("remedy"))))
    return f"{lacked['name']}: {said}" if said else f"{lacked['name']} is missing"
