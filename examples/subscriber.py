"""What a plant system needs to follow a device: any MQTT client, nothing of this SDK.

Prints every alert and result, keeps the heatmap pictures, and drops repeats by message_id.
"""

import argparse
import hashlib
import json
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def show(message: dict[str, object], folder: Path) -> None:
    parts = [str(message["captured_at"])[11:23], f"{message['kind']:15}"]
    if message.get("score") is not None:
        parts.append(f"score {message['score']:.3f} threshold {message['threshold']:.3f}")
    keys = [key for key in ("frame_id", "part_id", "reason") if key in message]
    parts += [f"{key} {message[key]}" for key in keys]
    regions = message.get("regions")
    if isinstance(regions, list) and regions:
        worst = regions[0]
        parts.append(f"region {worst['width']}x{worst['height']} at {worst['x']},{worst['y']}")
    if message.get("picture_sha256"):
        parts.append(f"picture {folder / str(message['picture_sha256'])[:12]}.jpg")
    print("  ".join(parts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--prefix", default="edge/v1", help="topic prefix of the devices")
    parser.add_argument("--pictures", type=Path, default=Path("pictures"))
    parser.add_argument("--log", type=Path, help="also append the messages here, one JSON a line")
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()

    def on_connect(client: mqtt.Client, *_: object) -> None:
        client.subscribe([(f"{options.prefix}/+/{name}/#", 1) for name in ("alert", "result")])

    def on_message(_client: mqtt.Client, _data: object, received: mqtt.MQTTMessage) -> None:
        if received.topic.endswith("/image"):
            name = hashlib.sha256(received.payload).hexdigest()[:12]
            (options.pictures / f"{name}.jpg").write_bytes(received.payload)
            return
        message = json.loads(received.payload)
        if message["message_id"] in seen:
            return
        seen.add(message["message_id"])
        show(message, options.pictures)
        if options.log:
            with options.log.open("a") as file:
                file.write(json.dumps(message) + "\n")

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_connect, client.on_message = on_connect, on_message
    client.connect(options.host, options.port)
    client.loop_forever()


if __name__ == "__main__":
    main()
