/** Getting a lesson onto the reader's disk: a copy in the folder that is open, made once and never overwritten. */

import { PathExt, URLExt } from '@jupyterlab/coreutils';
import { Contents, ServerConnection } from '@jupyterlab/services';

import { LessonsAnswer, SERVER_BASE } from './types';

/** What is used of Jupyter's files. */
export type Files = Pick<Contents.IManager, 'get' | 'save'>;

/** Ask the server extension for all lessons. */
export async function fetchLessons(settings: ServerConnection.ISettings): Promise<LessonsAnswer> {
  const url = URLExt.join(settings.baseUrl, SERVER_BASE, 'lessons');
  const answer = await ServerConnection.makeRequest(url, {}, settings);
  if (!answer.ok) {
    throw new Error(
      `The server has no lessons (${answer.status}). Is its extension enabled? jupyter server extension list tells.`
    );
  }
  return (await answer.json()) as LessonsAnswer;
}

/** The path of the reader's copy in `folder`; it is made if it is not there. */
export async function ownCopy(
  files: Files,
  lessons: () => Promise<LessonsAnswer>,
  name: string,
  folder: string
): Promise<string> {
  const path = PathExt.join(folder, `${name}.ipynb`);
  try {
    await files.get(path, { content: false });
    return path;
  } catch (error) {
    if (!(error instanceof ServerConnection.ResponseError) || error.response.status !== 404) {
      throw error;
    }
  }
  const lesson = (await lessons()).lessons.find(one => one.name === name);
  if (lesson === undefined) {
    throw new Error(
      `There is no lesson ${name} in the exo_lab that the server runs; it may be an older one.`
    );
  }
  await files.save(path, { type: 'notebook', format: 'json', content: JSON.parse(lesson.notebook) });
  return path;
}
