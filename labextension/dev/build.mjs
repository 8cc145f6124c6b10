// Builds dev/out/{light,dark}.html from the harness: `npm run harness`. Themes come from the JupyterLab that is installed.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import esbuild from 'esbuild';

const here = new URL('.', import.meta.url).pathname;
const out = join(here, 'out');
mkdirSync(out, { recursive: true });
const python = process.env.PYTHON ?? join(here, '../../.venv/bin/python');
const prefix = execFileSync(python, ['-c', 'import sys; print(sys.prefix)'], { encoding: 'utf8' }).trim();
const { outputFiles } = await esbuild.build({
  entryPoints: [join(here, 'harness.tsx')],
  bundle: true,
  write: false,
  jsx: 'transform',
  define: { 'process.env.NODE_ENV': '"production"' },
  loader: { '.json': 'json' }
});
const script = outputFiles[0].text.replaceAll('</script', '<\\/script');
const style = readFileSync(join(here, '../style/base.css'), 'utf8');
for (const theme of ['light', 'dark']) {
  const path = join(prefix, 'share/jupyter/lab/themes/@jupyterlab', `theme-${theme}-extension/index.css`);
  writeFileSync(
    join(out, `${theme}.html`),
    `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>exo_lab views</title>
<style>${readFileSync(path, 'utf8')}</style><style>${style}
body { margin: 0; background: var(--jp-layout-color1); }</style></head>
<body><main><h1 class="jp-ExoLab-hidden">exo_lab views</h1><div id="root" class="jp-ExoLab"></div></main><script>${script}</script></body></html>\n`
  );
  console.log(`wrote dev/out/${theme}.html`);
}
