"""Made-up results, and the verdicts that claims get by them."""

from dped_lib.experiments import claims, evidence


def verdicts(claim):
    return [f.verdict for f in claims.judge_claims(evidence.saved_results()) if f.claim == claim and f.preset]


def difference(first, second, low, high, metric="psnr", **more):
    return {
        "phone": "iphone",
        "metric": metric,
        "first": first,
        "second": second,
        "difference": (low + high) / 2,
        "interval": [low, high],
        **more,
    }


def ratio(value):
    return {"value": value, "low": value * 0.9, "high": value * 1.1}
