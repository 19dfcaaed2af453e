"""Uses the client for Python that openapi-python-client generated: .ci/clients runs it.

clients.py ORIGIN GENERATED GENERATED_WITHOUT_CONFIGURATION
"""

import importlib
import json
import re
import sys
import urllib.request
from io import BytesIO
from pathlib import Path

# The smallest PNG: one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)

origin, generated, plain = sys.argv[1:]
with urllib.request.urlopen(f"{origin}/api/openapi.json") as answer:
    document = json.load(answer)
operations = {
    operation["operationId"]
    for item in document["paths"].values()
    for method, operation in item.items()
    if method != "parameters"
}
for client in (generated, plain):
    modules = {path.stem for path in Path(client).glob("*/api/*/*.py")}
    missing = {name for name in operations if re.sub("(?<!^)(?=[A-Z])", "_", name).lower() not in modules}
    assert not missing, f"{client} lacks {sorted(missing)}"

sys.path.insert(0, generated)
package = next(Path(generated).glob("*/client.py")).parent.name
client = importlib.import_module(f"{package}.client").AuthenticatedClient(base_url=origin, token="none-is-needed")
types = importlib.import_module(f"{package}.types")
models = importlib.import_module(f"{package}.models")


def api(tag, name):
    return importlib.import_module(f"{package}.api.{tag}.{name}")


def file(content, name="a.png"):
    return types.File(payload=BytesIO(content), file_name=name, mime_type="image/png")


form = models.UploadForm(image=[file(PNG)], category="trip")
stored = api("upload", "upload_images").sync_detailed(client=client, body=form)
assert stored.status_code == 201 and stored.parsed.original_name == "a.png", stored
bytes_of = api("images", "get_image_bytes").sync_detailed(stored.parsed.id, client=client)
assert bytes_of.content == PNG, bytes_of

# The last part of an upload in parts, and a whole backup out and in again.
begun = urllib.request.Request(f"{origin}/api/upload", method="POST", headers={"Upload-Complete": "?0"})
with urllib.request.urlopen(begun) as answer:
    upload = json.load(answer)["uploadUrl"].rsplit("/", 1)[1]
part = api("upload", "append_to_upload").sync_detailed(
    upload, client=client, body=file(PNG), upload_offset=0, upload_complete="?1"
)
assert part.status_code == 201, part
backup = api("backups", "create_backup").sync_detailed(client=client).parsed.backup_name
zipped = api("backups", "download_backup").sync_detailed(backup, client=client)
imported = api("backups", "import_backup").sync_detailed(client=client, body=file(zipped.content))
assert imported.status_code == 200, imported
