/**
 * BokehJS in this page. A kernel sends it once, to the page that shows charts first; a page that was loaded again, or a
 * second tab, gets it from the server extension.
 */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { BokehAnswer, SERVER_BASE } from './types';

/** Ask the server extension for its BokehJS. */
export async function fetchBokeh(settings: ServerConnection.ISettings): Promise<BokehAnswer> {
  const url = URLExt.join(settings.baseUrl, SERVER_BASE, 'bokeh');
  const answer = await ServerConnection.makeRequest(url, {}, settings);
  if (!answer.ok) {
    throw new Error(`the server has no BokehJS for this page (${answer.status})`);
  }
  return (await answer.json()) as BokehAnswer;
}

export class BokehJs {
  constructor(private readonly _fetch: () => Promise<BokehAnswer>) {}

  /** Is it there? */
  get here(): boolean {
    return (window as { Bokeh?: unknown }).Bokeh !== undefined;
  }

  /** Have it, for a kernel with this version of Bokeh. Rejects with the reason where it cannot be had. */
  async load(version: string): Promise<void> {
    if (this.here) {
      return;
    }
    this._answer ??= this._fetch();
    let answer: BokehAnswer;
    try {
      answer = await this._answer;
    } catch (error) {
      this._answer = null; // the next one asks again
      throw error;
    }
    if (answer.version !== version) {
      throw new Error(`the kernel has Bokeh ${version}, the server ${answer.version || 'none'}`);
    }
    if (!this.here) {
      const script = document.createElement('script');
      script.textContent = answer.script;
      document.head.append(script);
    }
  }

  private _answer: Promise<BokehAnswer> | null = null;
}
