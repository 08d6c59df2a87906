import math

from iagraph.metrics import Estimate
from iagraph.tables import Table


def test_errors_may_be_missing_in_some_rows():
    table = Table("Gaps.", [{"a": None}, {"a": Estimate(1.5, 0.25)}, {"a": Estimate(math.nan, math.nan)}])
    assert table.csv().splitlines() == ["a,a error", ",", "1.5,0.25", "nan,nan"]
    assert table.cells() == [["a"], ["-"], ["1.50 +- 0.25"], ["-"]]


def test_csv_with_an_estimate_missing_in_the_first_row():
    table = Table("", [{"run": "a", "flips": None, "n": 1}, {"run": "b", "flips": Estimate(0.5, 0.25), "n": 2}])
    assert table.csv().splitlines() == ["run,flips,flips error,n", "a,,,1", "b,0.5,0.25,2"]


def test_markdown_and_latex():
    rows = [
        {"": "A_1|b", "1/eB at 0.5": Estimate(0.5, 0.1), "jets": 52_453},
        {"": r"50% $x^2$ ~{#}\a &", "1/eB at 0.5": None, "jets": 7},
    ]
    table = Table("Names.", rows)
    assert table.markdown().splitlines() == [
        "|  | 1/eB at 0.5 | jets |",
        "| --- | --- | --- |",
        r"| A_1\|b | 0.50 +- 0.10 | 52,453 |",
        r"| 50% $x^2$ ~{#}\a & | - | 7 |",
    ]
    lines = table.latex(["100 % of it"]).splitlines()
    assert lines[:4] == [
        "% 100 % of it",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & $1/\varepsilon_B$ at 0.5 & jets \\",
    ]
    assert lines[5] == r"A\_1|b & 0.50 $\pm$ 0.10 & 52,453 \\"
    name = r"50\% \$x\textasciicircum{}2\$ \textasciitilde{}\{\#\}\textbackslash{}a \&"
    assert lines[6] == rf"{name} & - & 7 \\"


def test_csv_may_have_its_own_rows():
    exact = [
        {"model": "A", "auc": Estimate(0.88, 0.004), "spread": None},
        {"model": "B", "auc": Estimate(math.inf, math.nan), "spread": 1 / 3},
    ]
    table = Table("Models.", [{"": "A", "AUC": "0.880"}, {"": "B", "AUC": "-"}], exact)
    assert table.csv().splitlines() == ["model,auc,auc_error,spread", "A,0.88,0.004,", f"B,inf,nan,{1 / 3}"]
