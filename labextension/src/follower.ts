/**
 * Follows the notebook or console that the person is in, and keeps the connection to its kernel.
 *
 * It opens the comm when there is a reason: somebody looks at the panel, or the notebook speaks of exo_lab. It starts no
 * kernel and runs no code.
 */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { ConsolePanel, IConsoleTracker } from '@jupyterlab/console';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { Kernel } from '@jupyterlab/services';
import { ISignal, Signal } from '@lumino/signaling';

import { mentionsExo } from './link';
import { Connection, Pool } from './pool';

/** What has a kernel and cells. */
export type Host = NotebookPanel | ConsolePanel;

/** What is used of the shell; Notebook 7 has the same. */
export type Shell = Pick<JupyterFrontEnd.IShell, 'currentWidget' | 'currentChanged'>;

export class Follower {
  constructor(
    readonly pool: Pool,
    private readonly _shell: Shell,
    private readonly _notebooks: INotebookTracker | null,
    private readonly _consoles: IConsoleTracker | null
  ) {
    // A tracker tells of its own widgets only: who comes back to a notebook from a console changes no notebook.
    for (const source of [_shell, _notebooks, _consoles]) {
      source?.currentChanged?.connect(() => this._turn());
    }
    this._turn();
  }

  /** The connection to the followed kernel; null where there is none. */
  get current(): Connection | null {
    return this._current;
  }

  /** Another kernel is followed, or none. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Something that shows the connection has come into sight. */
  look(): void {
    this._seen = true;
    void this._current?.link.attach();
  }

  /** The notebook with an id; null if it is not open. */
  notebook(id: string): NotebookPanel | null {
    return this._notebooks?.find(one => one.id === id) ?? null;
  }

  /** Every notebook and console. */
  hosts(): ReadonlyArray<Host> {
    return [...(this._notebooks?.filter(() => true) ?? []), ...(this._consoles?.filter(() => true) ?? [])];
  }

  /** The notebook or console that contains a node, for views in outputs. */
  hostAt(node: Node): Host | null {
    const contains = (host: Host): boolean => host.node.contains(node);
    return this._notebooks?.find(contains) ?? this._consoles?.find(contains) ?? null;
  }

  /** What draws the outputs of a notebook or console. */
  rendermimeOf(host: Host): IRenderMimeRegistry {
    return isNotebook(host) ? host.content.rendermime : host.console.rendermime;
  }

  /** The connection to the kernel of a notebook or console; null while it has none that takes comms. */
  connectionOf(host: Host): Connection | null {
    const id = kernelOf(host)?.id;
    // A page's second connection to a kernel takes none: a console beside a notebook shows what its notebook does.
    for (const one of [host, ...this.hosts()]) {
      const kernel = kernelOf(one);
      if (kernel !== null && kernel.id === id && kernel.handleComms) {
        return this.pool.of(kernel, titleOf(one));
      }
    }
    return null;
  }

  /**
   * Insert a cell below the active one, of the followed notebook or console if no other is given; run it if asked. False
   * where there is none.
   */
  async insert(code: string, run: boolean, into: Host | null = this._host): Promise<boolean> {
    if (into === null) {
      return false;
    }
    if (!isNotebook(into)) {
      if (run) {
        await into.console.inject(code);
      } else if (into.console.promptCell !== null) {
        into.console.promptCell.model.sharedModel.setSource(code);
      }
      return true;
    }
    const notebook = into.content;
    const active = notebook.activeCell;
    // An empty code cell is used; a person who has just opened a notebook is in one.
    if (
      active === null ||
      active.model.type !== 'code' ||
      active.model.sharedModel.getSource().trim() !== ''
    ) {
      NotebookActions.insertBelow(notebook);
    }
    notebook.activeCell?.model.sharedModel.setSource(code);
    if (run) {
      await NotebookActions.run(notebook, into.sessionContext);
    }
    return true;
  }

  /** Where the person is now; where that has no kernel (a text, the dashboard), the one before stays followed. */
  private _turn(): void {
    const widget = this._shell.currentWidget;
    if (widget !== null && this._notebooks?.has(widget)) {
      this._follow(widget as NotebookPanel);
    } else if (widget !== null && this._consoles?.has(widget)) {
      this._follow(widget as ConsolePanel);
    } else if (this._host === null) {
      this._follow(this._notebooks?.currentWidget ?? this._consoles?.currentWidget ?? null);
    }
  }

  private _follow(host: Host | null): void {
    if (host === null || host === this._host || host.isDisposed) {
      return;
    }
    this._host = host;
    if (!this._known.has(host)) {
      this._known.add(host);
      host.sessionContext.kernelChanged.connect(() => this._kernelChanged(host));
      host.disposed.connect(() => {
        if (this._host === host) {
          this._host = null;
          this._turn();
          this._kernelChanged(this._host);
        }
      });
    }
    this._kernelChanged(host);
  }

  private _kernelChanged(host: Host | null): void {
    if (this._host !== host) {
      return;
    }
    const connection = host === null ? null : this.connectionOf(host);
    if (connection !== this._current) {
      this._current = connection;
      this._changed.emit();
    }
    if (connection !== null && host !== null && (this._seen || (isNotebook(host) && speaksOfExo(host)))) {
      void connection.link.attach();
    }
  }

  private _host: Host | null = null;
  private _current: Connection | null = null;
  private _seen = false;
  private readonly _known = new WeakSet<Host>();
  private readonly _changed = new Signal<this, void>(this);
}

function isNotebook(host: Host): host is NotebookPanel {
  return host instanceof NotebookPanel;
}

function kernelOf(host: Host): Kernel.IKernelConnection | null {
  return host.sessionContext.session?.kernel ?? null;
}

function titleOf(host: Host): string {
  return host.title.label;
}

/** Has the notebook a cell that loads or uses exo_lab? Then its kernel may have it loaded, after a reload of the page. */
function speaksOfExo(panel: NotebookPanel): boolean {
  const cells = panel.content.model?.cells;
  if (cells === undefined) {
    return false;
  }
  for (const cell of cells) {
    if (mentionsExo(cell.sharedModel.getSource())) {
      return true;
    }
  }
  return false;
}
