"""PromQL in the forms that the dashboards need; every selector has the matchers of the job and the instance."""

from deploy.grafana.model import OURS, Query

PER_PBX = f'{OURS}, pbx=~"$pbx"'


def rate(metric: str, by: str, matchers: str = OURS) -> Query:
    """Steps of a counter per second, by a label."""
    return Query(f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))", f"{{{{{by}}}}}")


def total_rate(metric: str, legend: str, matchers: str = OURS) -> Query:
    """Steps of a counter per second, all together."""
    return Query(f"sum(rate({metric}{{{matchers}}}[$__rate_interval]))", legend)


def quantiles(histogram: str, by: str = "") -> tuple[Query, ...]:
    """p50, p95 and p99 of a histogram; with `by` only p99, by that label."""
    if by:
        expr = f"histogram_quantile(0.99, sum by (le, {by}) (rate({histogram}_bucket{{{OURS}}}[$__rate_interval])))"
        return (Query(expr, f"{{{{{by}}}}}"),)
    return tuple(
        Query(f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket{{{OURS}}}[$__rate_interval])))", name)
        for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def largest(gauge: str, by: str, matchers: str = OURS) -> Query:
    """The largest of a gauge, by a label."""
    return Query(f"max by ({by}) ({gauge}{{{matchers}}})", f"{{{{{by}}}}}")


def summed(gauge: str, by: str, matchers: str = OURS) -> Query:
    """The sum of a gauge, by a label."""
    return Query(f"sum by ({by}) ({gauge}{{{matchers}}})", f"{{{{{by}}}}}")


def age(timestamp: str, by: str, matchers: str = OURS) -> Query:
    """How long ago a point in time is."""
    return Query(f"time() - max by ({by}) ({timestamp}{{{matchers}}})", f"{{{{{by}}}}}")
