// Pictures that nobody took: hills under a sky, drawn by the browser, each number another one and each always the same.

/** Draws the pictures with these numbers, as files to upload: `[{ name, mimeType, buffer }]`. */
export async function draw(page, numbers, { width = 640, height = 480, mimeType = 'image/jpeg' } = {}) {
  const drawn = [];
  for (const number of numbers) {
    const encoded = await page.evaluate(paint, { number, width, height, mimeType });
    const extension = mimeType.split('/')[1].replace('jpeg', 'jpg');
    drawn.push({ name: `hills-${String(number).padStart(3, '0')}.${extension}`, mimeType, buffer: Buffer.from(encoded, 'base64') });
  }
  return drawn;
}

/** Draws one picture and puts bytes behind it that no decoder looks at, each mebibyte others, so that it is as long as that. */
export async function drawLong(page, number, length) {
  const [picture] = await draw(page, [number]);
  const filling = Buffer.alloc(length - picture.buffer.length);
  for (let at = 0; at + 4 <= filling.length; at += 4096) filling.writeUInt32LE(at + number, at);
  return { ...picture, buffer: Buffer.concat([picture.buffer, filling]) };
}

/** `count` numbers, from `first` on. */
export const range = (count, first = 1) => Array.from({ length: count }, (_, at) => first + at);

// Runs in the page.
function paint({ number, width, height, mimeType }) {
  let state = number * 0x9e3779b9;
  const random = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const pen = canvas.getContext('2d');
  const [high, low, land] = [[212, 200, 150], [222, 35, 190], [265, 20, 210], [205, 190, 110], [235, 330, 225], [200, 45, 90]][number % 6].map((hue) => hue + random() * 16);
  const sky = pen.createLinearGradient(0, 0, 0, height);
  sky.addColorStop(0, `hsl(${high} 55% 48%)`);
  sky.addColorStop(0.7, `hsl(${low} 75% 82%)`);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, width, height);
  pen.fillStyle = `hsl(${low} 90% 92%)`;
  pen.beginPath();
  pen.arc(width * (0.15 + random() * 0.7), height * (0.2 + random() * 0.25), height * (0.05 + random() * 0.06), 0, 2 * Math.PI);
  pen.fill();
  for (let ridge = 0; ridge < 5; ridge += 1) {
    const base = height * (0.45 + ridge * 0.12);
    const waves = Array.from({ length: 3 }, (_, at) => ({ high: height * 0.07 * random() / (at + 1), long: (at + 1) * (2 + random() * 4), from: random() * 7 }));
    pen.fillStyle = `hsl(${land + ridge * 5} ${22 + ridge * 5}% ${62 - ridge * 11}%)`;
    pen.beginPath();
    pen.moveTo(0, height);
    for (let x = 0; x <= width; x += 2) pen.lineTo(x, waves.reduce((y, wave) => y - wave.high * Math.sin(wave.from + wave.long * x / width), base));
    pen.lineTo(width, height);
    pen.fill();
  }
  return canvas.toDataURL(mimeType, 0.8).split(',')[1];
}
