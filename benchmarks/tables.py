"""python -m benchmarks.tables: writes the figures in results/*.json into the documents' tables.

The README has the comparisons in short, docs/figures.md all of them. A test holds the tables equal
to the results.
"""

import argparse
import json
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_ROOT = Path(__file__).parents[1]
_CLIENTS, _COMPARED = (1, 16, 64, 256), "64"
_BEGIN, _END = "<!-- figures -->\n", "<!-- /figures -->"


def in_short() -> str:
    """The README's comparisons: servers on one checkpoint, judges of the same messages."""
    return "\n".join([*_peers_in_short(_read("peers_starter")), "", *_judges_in_short()]) + "\n"


def _peers_in_short(peers: dict[str, Any]) -> list[str]:
    lines = [
        f"SMS a second, one a request, {_COMPARED} clients, one core for the server, all of them "
        f"with the starter, no cache ({peers['hardware']}; code of commit {peers['commit'][:7]}; "
        "each server in the number format in which it is fastest, the pipeline in float32 alone):",
        "",
        "| server | texts/s | median | p99 | start |",
        "|---|---|---|---|---|",
    ]
    fastest: dict[str, tuple[float, str]] = {}
    for name, run in peers["servers"].items():
        if "closed_loop" not in run:
            continue
        rate, median, p99 = (_mean(run, key) for key in ("ok_per_second", "p50_ms", "p99_ms"))
        server = name.removesuffix(" bfloat16").removesuffix(" float32").removesuffix(" int8")
        row = f"| {name} | {rate:.0f} | {median / 1000:.2f} s | {p99 / 1000:.2f} s |"
        row += f" {run['startup_seconds']:.0f} s |"
        fastest[server] = max(fastest.get(server, (0.0, "")), (rate, row))
    return lines + [row for _, row in sorted(fastest.values(), reverse=True)]


def _mean(run: dict[str, Any], key: str) -> float:
    """Of both rounds at the number of clients that all are compared at."""
    first, again = run["closed_loop"][_COMPARED][key], run["again"][key]
    return float(first + again) / 2


def _judges_in_short() -> list[str]:
    starter, judges = _read("starter")["mean_and_deviation"], _read("judges")["systems"]
    sets = ("mail", "sms", "youtube-spam", "enron-spam")
    names = ("mails", "SMS", "comments", "mails of Enron-Spam")
    sizes = [_read("starter")["runs"][of]["spamgate"][0]["texts"] for of in sets]
    counts = ", ".join(f"{n:,} {name}" for n, name in zip(sizes, names, strict=True))
    cell = "{:.3f}, {:.3f}".format
    filtered = judges["bogofilter"]["enron-spam"]["messages"]
    own = judges["spamgate at 0.5"]["enron-spam"]
    of_these = cell(own["mcc"][0], own["roc_auc"][0])
    lines = [
        f"MCC and ROC AUC on test messages: {counts}; of the last for the filters {filtered:,} "
        f"(spamgate's of these: {of_these}, by an earlier reading of mail). Nobody has learnt from "
        "Enron-Spam; of the others the starter's first steps had read some 24 (its card). "
        "The bag-of-words models have read what the starter has, but "
        "for 50 messages, the one of the corpora alone no invented ones; the filters the archive's "
        "mail alone, whose header fields they see:",
        "",
        "| judge | SpamAssassin's archive | SMS | YouTube comments | Enron-Spam |",
        "|---|---|---|---|---|",
    ]
    for system in starter["mail"]:
        found = (starter[texts][system] for texts in sets)
        cells = [cell(of["mcc"][0], of["roc_auc"][0]) for of in found]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    for system, of_sets in judges.items():
        if not system.startswith("spamgate"):
            mail, enron = (
                cell(of_sets[texts]["mcc"][0], of_sets[texts]["roc_auc"][0])
                for texts in ("mail", "enron-spam")
            )
            lines.append(f"| {system} | {mail} | | | {enron} |")
    return lines


def in_full() -> str:
    """The tables of docs/figures.md."""
    service, starter, runs = _read("service"), _read("starter"), _read("starter_runs")
    without, robustness = _read("leave_out"), _read("robustness")
    single, batches = service["single_text"], service["batches_of_64"]
    many = service["texts_per_second_of_64_clients"]
    rates = " / ".join(f"{rate:.0f}" for rate in many.values())
    lines = [
        f"The service with the starter in {service['dtype']} on {service['hardware']}, the client "
        f"on the same cores (`{service['command']}`):",
        "",
        "| figure | |",
        "|---|---|",
        f"| process start to first healthy answer | {service['startup_seconds']} s |",
        f"| one text, one client, median | {single['p50_ms']} ms |",
        f"| batches of 64 texts, one client | {batches['texts_per_second']:.0f} texts/s |",
        f"| one text a request, 64 clients, {' / '.join(many)} | {rates} texts/s |",
        f"| resident memory after load | {service['resident_mib']['after_load']:.0f} MiB |",
        *_peers(_read("peers_starter")),
        "",
        "The starter beside bag-of-words models trained on the same texts, invented ones too, an "
        "SVM trained on the three corpora alone, and all "
        "calibrated on the same validation part, on its test part, on Enron-Spam and on 9,097 "
        "invented messages of today (`benchmarks/messages`), of which none was trained on, less "
        "what nearly equals a text of the others; fresh-english has chosen nothing, "
        "fresh-languages nothing but that two earlier starters lose nothing there "
        f"(`{starter['command']}`):",
        "",
        "| texts | system | MCC | F1 | spam caught | ham blocked | ROC AUC |",
        "|---|---|---|---|---|---|---|",
    ]
    names = ("mcc", "f1", "spam_caught", "ham_blocked", "roc_auc")
    for texts, systems in starter["mean_and_deviation"].items():
        for system, metrics in systems.items():
            cells = [f"{metrics[name][0]:.4f}" for name in names]
            lines.append(f"| {texts} | {system} | {' | '.join(cells)} |")
            if system == "spamgate" and texts in runs["mean_and_deviation"]:
                of_runs = runs["mean_and_deviation"][texts][system]
                cells = ["{:.4f} ± {:.4f}".format(*of_runs[name]) for name in names]
                lines.append(f"| {texts} | one run of the third step* | {' | '.join(cells)} |")
    lines += [
        "",
        "\\* Mean and standard deviation of five runs of the third step, with the table of then, "
        "judged before HTML's names of characters were read and blanks run together; the starter "
        "went on from such (`benchmarks/results/starter_runs.json` has the command).",
        "",
        "Trained without the labels of one of the three, tested on it and on Enron-Spam: the first "
        "of the recipe's three steps, from `checkpoints/base`, which has read the training part of "
        "all three as plain text, beside models that had the same texts, invented ones too; these "
        "are calibrated on the validation part of what was left, the network in this step is not "
        f"(`{without['command']}`, one corpus at a time; "
        "`--teacher` names the file that `scripts/build-starter` makes):",
        "",
        "| texts | system | F1 | ROC AUC |",
        "|---|---|---|---|",
    ]
    lines += _without(without)
    lines += _judges(_read("judges")) + _robustness(robustness)
    return "\n".join(lines) + "\n"


def _without(without: dict[str, Any]) -> list[str]:
    return [
        f"| {texts} | {system} | {metrics['f1'][0]:.4f} | {metrics['roc_auc'][0]:.4f} |"
        for texts, systems in without["mean_and_deviation"].items()
        for system, metrics in systems.items()
    ]


def _peers(peers: dict[str, Any]) -> list[str]:
    servers = {name: run for name, run in peers["servers"].items() if "closed_loop" in run}
    clients = [str(n) for n in _CLIENTS]
    lines = [
        "",
        f"spamgate beside other servers on the same checkpoint, {peers['hardware']}: one core for "
        "the server and one for the client, one text a request, no cache "
        f"(`{peers['command']}`). Texts a second of so many clients, how long half and all but one "
        f"in a hundred of {_COMPARED} clients' requests take at most (mean of both rounds), "
        "process start to first answer:",
        "",
        f"| server | {' | '.join(clients)} | {_COMPARED} again | median | p99 | start |",
        f"|---|{'---|' * (len(clients) + 4)}",
    ]
    for name, run in servers.items():
        loops, again = run["closed_loop"], run["again"]
        cells = [f"{loops[count]['ok_per_second']:.0f}" for count in clients]
        cells += [f"{again['ok_per_second']:.0f}"]
        cells += [f"{_mean(run, key) / 1000:.2f} s" for key in ("p50_ms", "p99_ms")]
        lines.append(f"| {name} | {' | '.join(cells)} | {run['startup_seconds']:.0f} s |")
    return lines


def _judges(judges: dict[str, Any]) -> list[str]:
    learnt, systems = judges["learnt"], judges["systems"]
    sets = list(next(iter(systems.values())))
    lines = [
        "",
        "Its verdicts on mail beside those of the filters that people run, each at its own "
        "threshold, none with a network to ask: MCC, spam caught, ham blocked, ROC AUC. Those with "
        f"Bayes, and bogofilter, were given {learnt['ham']} ham and {learnt['spam']} spam of the "
        "same archive to learn, and nothing of what else the starter has read (SMS, comments, "
        "invented messages); Enron-Spam took part in the choice of its recipe. *mail*: the test "
        "part's messages as they came, with header fields "
        "that in this archive tell much and that the starter does not read; *text alone* and "
        "Enron-Spam: all under the same few "
        f"fields (`{judges['command']}`, the starter and its reading of commit "
        f"{judges['commit'][:7]}):",
        "",
        f"| filter | {' | '.join(sets)} |",
        f"|---|{'---|' * len(sets)}",
    ]
    for system, of_sets in systems.items():
        cells = [
            f"{f['mcc'][0]:.3f}, {f['spam_caught'][0]:.0%}, {f['ham_blocked'][0]:.1%}, "
            f"{f['roc_auc'][0]:.4f}"
            for f in (of_sets[name] for name in sets)
        ]
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return lines


def _robustness(robustness: dict[str, Any]) -> list[str]:
    corpora = robustness["corpora"]
    lines = [
        "",
        "Verdicts of the starter on spam of the test part that are turned by what is done to it, "
        "and in brackets turned from spam to ham (others become spam), at 0.5 / at the cut-off for "
        f"spam, {robustness['cutoff']:.2f}; of all disguises the worst, of good words in "
        "front and behind the worse "
        f"(`{robustness['command']}`):",
        "",
        f"| done to it | {' | '.join(corpora)} |",
        f"|---|{'---|' * len(corpora)}",
    ]
    names = list(next(iter(corpora.values()))["turned"])
    lengths = dict.fromkeys(name.split()[0] for name in names if "good words" in name)
    rows = {"disguised": [name for name in names if "good words" not in name]} | {
        f"{number} good words": [name for name in names if name.startswith(f"{number} good")]
        for number in lengths
    }
    for row, changes in rows.items():
        cells = []
        for figures in corpora.values():
            found = [figures["turned"][change] for change in changes]
            parts = []
            for at in ("", "_at_cutoff"):
                turned, evaded = (
                    max(map(itemgetter(f"{k}{at}"), found)) for k in ("turned", "evaded")
                )
                parts.append(f"{turned:.0%} ({evaded:.0%})")
            cells.append(" / ".join(parts))
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


DOCUMENTS: dict[Path, Callable[[], str]] = {
    _ROOT / "README.md": in_short,
    _ROOT / "docs" / "figures.md": in_full,
}
"""Each document with tables, and what stands between its two marks."""


def updated(document: Path) -> str:
    """The document's text with the tables of today's results."""
    before, _, rest = document.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + DOCUMENTS[document]() + _END + after


def _read(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__).parse_args()
    for document in DOCUMENTS:
        document.write_text(updated(document), encoding="utf-8")
