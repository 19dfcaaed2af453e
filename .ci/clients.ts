// What a user of the API writes against the types that openapi-typescript generates. It is compiled, not run.
import createClient from 'openapi-fetch';
import type { paths } from './api';

const client = createClient<paths>({ baseUrl: 'http://localhost:3000' });

/** A `File` fits the form, and the answer narrows by the fields that each kind of it has. */
export async function upload(file: File): Promise<string> {
  const { data, error } = await client.POST('/api/upload', {
    body: { image: [file], category: 'trip' },
    bodySerializer: () => new FormData(),
  });
  if (!data) throw new Error(error.detail);
  if ('uploadUrl' in data) return data.uploadUrl;
  if ('images' in data) return data.images.map((image) => image.id).join();
  return data.id;
}

/** An entry of a list narrows by the field that only groups have. */
export async function sizes(): Promise<number[]> {
  const { data } = await client.GET('/api/images');
  return (data?.images ?? []).map((entry) => ('files' in entry ? entry.files.length : entry.size ?? 0));
}
