/** As much of JupyterLab as the follower and the widgets use; its own packages run in browsers only. */

import type { JupyterFrontEnd } from '@jupyterlab/application';
import type { IConsoleTracker } from '@jupyterlab/console';
import type { INotebookTracker } from '@jupyterlab/notebook';
import { MessageLoop } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import * as React from 'react';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';

import type { Host } from '../src/follower';
import { FakeKernel } from './kernel';

/** What JupyterLab's own `ReactWidget` does, in step with the tests. */
export abstract class ReactWidget extends Widget {
  protected abstract render(): React.ReactElement | null;

  override update(): void {
    MessageLoop.sendMessage(this, Widget.Msg.UpdateRequest);
  }

  protected override onUpdateRequest(): void {
    this._root ??= createRoot(this.node);
    act(() => this._root?.render(this.render()));
  }

  protected override onAfterAttach(): void {
    this.update();
  }

  protected override onBeforeDetach(): void {
    act(() => this._root?.unmount());
    this._root = null;
  }

  private _root: Root | null = null;
}

class FakeSessionContext {
  readonly kernelChanged = new Signal<this, unknown>(this);
  session: { kernel: FakeKernel | null } | null = null;

  /** It has this kernel from now on. */
  take(kernel: FakeKernel | null): void {
    this.session = { kernel };
    this.kernelChanged.emit(null);
  }
}

/** Draws each output as its MIME type. */
export class FakeRendermime {
  createRenderer(mime: string): Widget {
    const made = new Widget();
    return Object.assign(made, {
      renderModel: async (): Promise<void> => Promise.resolve(void (made.node.textContent = mime))
    });
  }
}

export class FakeHost extends Widget {
  constructor(name: string, kernel: FakeKernel | null = new FakeKernel()) {
    super();
    this.id = this.title.label = name;
    this.sessionContext.session = kernel === null ? null : { kernel };
  }

  readonly sessionContext = new FakeSessionContext();
  readonly cells: { sharedModel: { getSource: () => string } }[] = [];
  readonly content = { model: { cells: this.cells }, activeCell: null, rendermime: new FakeRendermime() };
  readonly injected: string[] = [];
  readonly console = {
    inject: async (code: string): Promise<void> => Promise.resolve(void this.injected.push(code))
  };
}

/** `@jupyterlab/notebook` for `jest.mock`: a notebook is one by its class. */
export class NotebookPanel extends FakeHost {}

export const NotebookActions = {
  insertBelow: jest.fn(),
  run: jest.fn(() => Promise.resolve(true))
};

class FakeTracker {
  readonly currentChanged = new Signal<this, unknown>(this);
  currentWidget: FakeHost | null = null;
  readonly widgets: FakeHost[] = [];

  has(widget: Widget): boolean {
    return this.widgets.includes(widget as FakeHost);
  }

  filter(fits: (widget: FakeHost) => boolean): FakeHost[] {
    return this.widgets.filter(fits);
  }

  find(fits: (widget: FakeHost) => boolean): FakeHost | undefined {
    return this.widgets.find(fits);
  }

  /** As a tracker does, it says so only if it was another of its own that was there before. */
  turn(widget: FakeHost): void {
    if (this.currentWidget !== widget) {
      this.currentWidget = widget;
      this.currentChanged.emit(widget);
    }
  }
}

/** A shell with notebooks and consoles, one of which, or something else, is in the foreground. */
export class FakeLab {
  readonly notebooks = new FakeTracker();
  readonly consoles = new FakeTracker();
  readonly shell = { currentWidget: null as Widget | null, currentChanged: new Signal<object, unknown>({}) };

  notebook(name: string, kernel?: FakeKernel | null): FakeHost {
    return this._open(this.notebooks, new NotebookPanel(name, kernel));
  }

  console(name: string, kernel?: FakeKernel | null): FakeHost {
    return this._open(this.consoles, new FakeHost(name, kernel));
  }

  /** The person goes there. */
  go(widget: Widget): void {
    for (const tracker of [this.notebooks, this.consoles]) {
      if (tracker.has(widget)) {
        tracker.turn(widget as FakeHost);
      }
    }
    this.shell.currentWidget = widget;
    this.shell.currentChanged.emit(undefined);
  }

  get real(): [JupyterFrontEnd.IShell, INotebookTracker, IConsoleTracker] {
    return [this.shell, this.notebooks, this.consoles] as unknown as ReturnType<() => FakeLab['real']>;
  }

  private _open(tracker: FakeTracker, host: FakeHost): FakeHost {
    tracker.widgets.push(host);
    this.go(host);
    return host;
  }
}

export function real(host: FakeHost): Host {
  return host as unknown as Host;
}
