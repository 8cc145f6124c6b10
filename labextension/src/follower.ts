/**
 * Follows the notebook or console that the person is in, and keeps the connection to its kernel.
 *
 * It opens the comm when there is a reason: somebody looks at the panel, or the notebook speaks of exo_lab. It starts no
 * kernel and runs no code.
 */

import type { ISessionContext } from '@jupyterlab/apputils';
import type { ConsolePanel, IConsoleTracker } from '@jupyterlab/console';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { ISignal, Signal } from '@lumino/signaling';

import { mentionsExo } from './link';
import { Connection, Pool } from './pool';

type Host = NotebookPanel | ConsolePanel;

export class Follower {
  constructor(
    readonly pool: Pool,
    private readonly _notebooks: INotebookTracker | null,
    consoles: IConsoleTracker | null
  ) {
    _notebooks?.currentChanged.connect((_, panel) => this._follow(panel));
    consoles?.currentChanged.connect((_, panel) => this._follow(panel));
    this._follow(_notebooks?.currentWidget ?? consoles?.currentWidget ?? null);
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

  /** The connection of the notebook that contains a node, for views in outputs. */
  connectionAt(node: Node): Connection | null {
    const panel = this._notebooks?.find(one => one.node.contains(node)) ?? null;
    const kernel = panel?.sessionContext.session?.kernel ?? null;
    return panel === null || kernel === null ? null : this.pool.of(kernel, titleOf(panel));
  }

  /** Insert a cell below the active one; run it if asked. False where there is no notebook and no console. */
  async insert(code: string, run: boolean): Promise<boolean> {
    const host = this._host;
    if (host === null) {
      return false;
    }
    if (!isNotebook(host)) {
      if (run) {
        await host.console.inject(code);
      } else if (host.console.promptCell !== null) {
        host.console.promptCell.model.sharedModel.setSource(code);
      }
      return true;
    }
    const notebook = host.content;
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
      await NotebookActions.run(notebook, host.sessionContext);
    }
    return true;
  }

  private _follow(host: Host | null): void {
    if (host === null || host === this._host) {
      if (this._host?.isDisposed !== false) {
        this._set(null, null);
      }
      return;
    }
    const session = host.sessionContext;
    this._set(host, null);
    if (!this._known.has(host)) {
      this._known.add(host);
      session.kernelChanged.connect(() => this._kernelChanged(host, session));
      host.disposed.connect(() => {
        if (this._host === host) {
          this._set(null, null);
        }
      });
    }
    this._kernelChanged(host, session);
  }

  private _kernelChanged(host: Host, session: ISessionContext): void {
    if (this._host !== host) {
      return;
    }
    const kernel = session.session?.kernel ?? null;
    const connection = kernel === null ? null : this.pool.of(kernel, titleOf(host));
    this._set(host, connection);
    if (connection !== null && (this._seen || (isNotebook(host) && speaksOfExo(host)))) {
      void connection.link.attach();
    }
  }

  private _set(host: Host | null, connection: Connection | null): void {
    this._host = host;
    if (connection !== this._current) {
      this._current = connection;
      this._changed.emit();
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
