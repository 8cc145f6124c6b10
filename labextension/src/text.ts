/** The texts that views need of a translator; `TranslationBundle` of JupyterLab is one. */
export interface Trans {
  __(message: string, ...values: unknown[]): string;
  _n(singular: string, plural: string, count: number, ...values: unknown[]): string;
}

/** English as it is written in the source: where there is no translator. `%1` is the first value. */
export const english: Trans = {
  __: (message, ...values) => fill(message, values),
  _n: (singular, plural, count, ...values) => fill(count === 1 ? singular : plural, [count, ...values])
};

function fill(message: string, values: readonly unknown[]): string {
  return message.replace(/%(\d)/g, (whole, digit: string) => {
    const value = values[Number(digit) - 1];
    return value === undefined ? whole : String(value);
  });
}

/**
 * A peer's text on one line, without characters that steer the page's direction or hide: names come from other machines.
 * React escapes what is left.
 */
export function clean(text: string, limit = 1000): string {
  const visible = text
    .slice(0, 2 * limit)
    .replace(/\s/g, ' ')
    .replace(/\p{C}/gu, '\ufffd')
    .split(/ +/)
    .join(' ')
    .trim();
  return visible.length <= limit ? visible : `${visible.slice(0, limit - 1)}\u2026`;
}

/** A device's or model's name, never empty. */
export function cleanName(name: string): string {
  return clean(name, 48) || '(no name)';
}
