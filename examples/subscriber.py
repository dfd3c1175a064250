"""What a plant system needs to follow a device: any MQTT client, nothing of this SDK.

Prints every alert and result, keeps the heatmap pictures, and drops repeats by message_id.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def line_of(message: dict[str, Any], folder: Path) -> str:
    parts = [message["captured_at"][11:23], f"{message['kind']:15}"]
    if "score" in message:
        parts.append(f"score {message['score']:.3f} threshold {message['threshold']:.3f}")
    parts += [f"{key} {message[key]}" for key in ("frame_id", "part_id") if key in message]
    for worst in message.get("regions", [])[:1]:
        parts.append(f"region {worst['width']}x{worst['height']} at {worst['x']},{worst['y']}")
    if "picture_sha256" in message:
        parts.append(f"picture {folder / message['picture_sha256'][:12]}.jpg")
    return "  ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", default=1883, type=int)
    parser.add_argument("--pictures", type=Path, default=Path("pictures"))
    parser.add_argument("--log", type=Path, default=Path("messages.jsonl"))
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()

    def on_connect(client: mqtt.Client, *_: object) -> None:
        client.subscribe([(f"edge/v1/+/{name}/#", 1) for name in ("alert", "result")])

    def on_message(_client: mqtt.Client, _data: object, received: mqtt.MQTTMessage) -> None:
        if received.topic.endswith("/image"):
            name = hashlib.sha256(received.payload).hexdigest()[:12]
            (options.pictures / f"{name}.jpg").write_bytes(received.payload)
            return
        message = json.loads(received.payload)
        if message["message_id"] in seen:
            return
        seen.add(message["message_id"])
        print(line_of(message, options.pictures), flush=True)
        with options.log.open("a") as log:
            log.write(json.dumps(message) + "\n")

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_message = on_connect, on_message
    client.connect(options.host, options.port)
    client.loop_forever()


main()
