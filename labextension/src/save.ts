/** Saving what is shown as a file, in the browser alone: it works while a cell runs. */

const SHARPNESS = 2; // pixels of the picture for each of the page's
const STYLES = ['fill', 'stroke', 'stroke-opacity', 'font-family', 'font-size', 'font-weight'];

export function saveText(text: string, type: string, name: string): void {
  save(new Blob([text], { type }), name);
}

/** A drawing as a PNG, in the colours that it has on the page, on the page's ground. */
export async function savePng(drawing: SVGSVGElement, name: string): Promise<void> {
  const { width, height } = drawing.viewBox.baseVal;
  const url = URL.createObjectURL(new Blob([standalone(drawing)], { type: 'image/svg+xml' }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = SHARPNESS * width;
    canvas.height = SHARPNESS * height;
    const pen = canvas.getContext('2d');
    if (pen === null) {
      throw new Error('this browser gives no canvas to draw on');
    }
    pen.fillStyle = groundOf(drawing);
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise<Blob | null>(done => canvas.toBlob(done, 'image/png'));
    if (blob === null) {
      throw new Error('this browser made no PNG of the drawing');
    }
    save(blob, name);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Style sheets stay behind when a drawing leaves the page: what they say is written into it. */
function standalone(drawing: SVGSVGElement): string {
  const copy = drawing.cloneNode(true) as SVGSVGElement;
  copy.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  const copies = copy.querySelectorAll<SVGElement>('text, path');
  drawing.querySelectorAll('text, path').forEach((original, i) => {
    const style = getComputedStyle(original);
    for (const property of STYLES) {
      copies[i].style.setProperty(property, style.getPropertyValue(property));
    }
  });
  return new XMLSerializer().serializeToString(copy);
}

/** The colour under an element: the first one around it that is not transparent. */
function groundOf(element: Element): string {
  for (let at: Element | null = element; at !== null; at = at.parentElement) {
    const ground = getComputedStyle(at).backgroundColor;
    if (ground !== '' && ground !== 'transparent' && ground !== 'rgba(0, 0, 0, 0)') {
      return ground;
    }
  }
  return 'white';
}

function save(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
