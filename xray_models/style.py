"""How plots look, here and in the report: colours and matplotlib settings."""

from __future__ import annotations

from typing import Any

INK, RULE = "#16181d", "#d5d8de"
# Okabe & Ito (2008), told apart by colour-blind readers; darkened where white paper asks for it.
SERIES = ("#0072b2", "#d55e00", "#008f68", "#b5588f", "#8a6d00", "#2a97d4")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is one
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "savefig.facecolor": "white",
}
