"""What the official function says of callbacks: an array of {body, headers, secret} on stdin, a boolean for each."""

import json
import sys

from blaxel.core.common.webhook import verify_webhook_signature

said = [
    verify_webhook_signature(
        each["body"], each["headers"]["x-blaxel-signature"], each["secret"], each["headers"]["x-blaxel-timestamp"]
    )
    for each in json.load(sys.stdin)
]
print(json.dumps(said))
