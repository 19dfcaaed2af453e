// A store of very many pictures: a folder of the older format, which the server takes over at its start as it would anyone's.
import { createHash } from 'node:crypto';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { draw, range } from '../../tests/browser/pictures.mjs';

/** Pictures that look different. The others are the same to the eye, and differ in their bytes. */
const DIFFERENT = 60;
const CATEGORIES = ['fun', 'holiday', 'family', 'work', 'hills', 'sea'];
const FIRST_DAY = Date.UTC(2021, 0, 1);
const HOUR = 3_600_000;

/** Fills a folder with `images` JPEGs of 640 × 480, a fifth of them in groups of five. Their replicas are there too, so that the
 * server only has to look and not to write. */
export async function fill(page, folder, images) {
  const drawn = await draw(page, range(DIFFERENT), { width: 640, height: 480 });
  for (const place of ['uploads', 'backups/images']) await mkdir(join(folder, place), { recursive: true });
  const records = {};
  const write = async (number) => {
    const name = `img-${String(number).padStart(7, '0')}.jpg`;
    const bytes = numbered(drawn[number % DIFFERENT].buffer, number);
    const digest = createHash('sha256').update(bytes).digest('hex');
    for (const place of [join('uploads', name), join('backups/images', digest)]) {
      const file = await open(join(folder, place), 'wx');
      await file.writeFile(bytes);
      await file.close();
    }
    records[name] = record(number);
  };
  let next = 0;
  const writer = async () => { while (next < images) await write(next++); };
  await Promise.all(Array.from({ length: 16 }, writer));
  await writeFile(join(folder, 'image-metadata.json'), JSON.stringify(records, null, 2));
}

function record(number) {
  const grouped = number % 25 < 5;
  return {
    category: CATEGORIES[number % CATEGORIES.length],
    description: `Picture ${number}, on day ${Math.floor(number / 50)}`,
    uploadDate: new Date(FIRST_DAY + number * HOUR / 2).toISOString(),
    type: 'image',
    ...grouped ? { groupId: `group-${Math.floor(number / 25)}`, order: number % 25 } : { order: 999 },
  };
}

/** The same JPEG with a number in a comment behind its start. */
function numbered(jpeg, number) {
  const text = Buffer.from(String(number));
  const marker = Buffer.from([0xff, 0xfe, 0, text.length + 2]);
  return Buffer.concat([jpeg.subarray(0, 2), marker, text, jpeg.subarray(2)]);
}
