/** Every command's id, and the code that commands insert. */

export const Commands = {
  /** Show the side panel. */
  openPanel: 'exo-lab:open-panel',
  /** Open the dashboard in the main area. */
  openDashboard: 'exo-lab:open-dashboard',
  /** Insert and run a cell that makes the active notebook's kernel a node. */
  connect: 'exo-lab:connect',
  /** End the running generation. */
  stop: 'exo-lab:stop',
  /** Ask the kernel again how things are. */
  refresh: 'exo-lab:refresh',
  /** Insert a cell with one of `SNIPPETS`, without running it. */
  insert: 'exo-lab:insert',
  /** Open one of `LESSONS`: a copy of one's own, which is made the first time. */
  openLesson: 'exo-lab:open-lesson'
} as const;

/** What makes a kernel a node. Loading the extension twice does no harm. */
export const CONNECT_CODE = '%load_ext exo_lab\n%exo connect';

/** Cells to begin with, by name. */
export const SNIPPETS: Readonly<Record<string, { readonly label: string; readonly code: string }>> = {
  up: { label: 'Start three nodes on this machine', code: '%load_ext exo_lab\n%exo connect\n%exo up 3' },
  load: { label: 'Load a model over the nodes', code: '%exo load' },
  ask: { label: 'Ask the model', code: '%%exo\nWhat is the capital of France?' },
  plan: { label: 'Show who would hold which layers', code: '%exo plan' },
  api: {
    label: 'Use the cluster from Python',
    code: [
      'import exo_lab',
      '',
      'cluster = exo_lab.connect()',
      'for piece in cluster.generate("What is the capital of France?"):',
      '    print(piece, end="")'
    ].join('\n')
  }
};

/** The notebooks that come with exo_lab, by file name: what their cards say. */
export const LESSONS: Readonly<Record<string, string>> = {
  '01-your-first-cluster': '1 · Your first cluster',
  '02-prefill-decode-kv-cache': '2 · Prefill, decode and the KV cache',
  '03-cutting-a-model': '3 · Cutting a model',
  '04-the-network-matters': '4 · The network matters',
  '05-when-a-device-dies': '5 · When a device dies',
  '06-reading-telemetry': '6 · Reading telemetry'
};
