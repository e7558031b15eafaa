"""``python -m tests.grafana_types``: the dashboards' JSON under Grafana's published types, by the TypeScript compiler.

It needs Node, and npm downloads the types once, into ``~/.cache/callstream``; `tests/test_dashboards.py` then runs it.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from deploy.grafana.__main__ import files

PACKAGES = ("@grafana/schema@13.2.3", "typescript@5.9.3")
FOLDER = Path.home() / ".cache" / "callstream" / "grafana-schema-13.2.3"
PROGRAM = """
import type {{ AnnotationQuery, Dashboard, Panel }} from '@grafana/schema';
import type {{ Options as TimeSeries, FieldConfig as TimeSeriesField }} from '{timeseries}';
import type {{ Options as Stat }} from '{stat}';
import type {{ Options as StateTimeline }} from '{timeline}';

// JSON knows no enums: each stands for its values.
type Number<T extends number> = T | (`${{T}}` extends `${{infer N extends number}}` ? N : never);
type Plain<T> = T extends string ? `${{T}}` : T extends number ? Number<T>
  : T extends (infer E)[] ? Plain<E>[] : T extends object ? {{ [K in keyof T]: Plain<T[K]> }} : T;
// The schema leaves to each data source what its queries are.
type Source = {{ type: 'prometheus'; uid: string }};
type Query = {{ refId: string; datasource: Source; expr: string; legendFormat: string;
  range: boolean; instant: boolean }};
type Annotation = Plain<Omit<AnnotationQuery, 'target'>> & {{ target: {{ refId: string; expr: string }} }};
// And to each kind of panel what its options are.
type Common = Plain<Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>>;
type Defaults = Plain<Omit<NonNullable<Panel['fieldConfig']>['defaults'], 'custom'>>;
type Custom<F> = {{ defaults: Defaults & {{ custom?: Plain<Partial<F>> }}; overrides: [] }};
type Typed<Kind extends string, O, F> = Common & {{
  type: Kind; targets: Query[]; options: Plain<O>; fieldConfig: Custom<F> }};
type Row = Plain<Extract<NonNullable<Dashboard['panels']>[number], {{ type: 'row' }}>>;
type AnyPanel = Typed<'timeseries', TimeSeries, TimeSeriesField> | Typed<'stat', Stat, never>
  | Typed<'state-timeline', StateTimeline, never> | Row;
type Page = Plain<Omit<Dashboard, 'panels' | 'annotations'>> & {{
  panels: AnyPanel[]; annotations: {{ list: Annotation[] }} }};

export const page: Page = {json};
"""
PANELS = "@grafana/schema/dist/esm/raw/composable"
MODULES = {
    "timeseries": f"{PANELS}/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
    "stat": f"{PANELS}/stat/panelcfg/x/StatPanelCfg_types.gen",
    "timeline": f"{PANELS}/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
}


def is_installed() -> bool:
    """Whether npm has been here."""
    return (FOLDER / "node_modules" / "typescript").is_dir()


def complaints(documents: Iterable[str]) -> str:
    """What the compiler says of these JSON texts; empty: nothing."""
    programs = []
    for number, text in enumerate(documents):
        program = FOLDER / f"page-{number}.ts"
        program.write_text(PROGRAM.format(json=json.dumps(json.loads(text), indent=1), **MODULES), "utf-8")
        programs.append(program.name)
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler"]
    command = ["node", "node_modules/typescript/bin/tsc", *options, *programs]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False).stdout


def main() -> int:
    """0 when each has the right types."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not is_installed():
        command = ["npm", "install", "--prefix", str(FOLDER), "--no-audit", "--no-fund", "--silent", *PACKAGES]
        subprocess.run(command, check=True)
    found = complaints(files().values())
    print(found or f"{len(files())} dashboards have the types of {PACKAGES[0]}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
