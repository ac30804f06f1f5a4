// Prints emotions as a member of a consumer group: npm install redis && node subscribe.mjs REDIS_URL STREAM
import { hostname } from "node:os";
import { setTimeout } from "node:timers/promises";
import { createClient } from "redis";

const [url = "redis://localhost:6379", stream = "lobby"] = process.argv.slice(2);
const key = `emotions:${stream}`, group = "javascript", consumer = hostname();
let start = "$";
process.on("SIGTERM", () => process.exit());      // what was not acknowledged comes again

while (true) {      // each connection begins anew, since a reply may have been lost with the one before
  const client = createClient({ url, socket: { reconnectStrategy: false } });
  const lost = new Promise((_, reject) => client.on("error", reject));
  await Promise.race([lost, read(client)]).catch((error) => console.error(error.message));
  if (client.isOpen) client.destroy();
  await setTimeout(1000);
}

async function read(client) {
  await client.connect();
  await client.xGroupCreate(key, group, start, { MKSTREAM: true }).catch((error) => {
    if (!error.message.startsWith("BUSYGROUP")) throw error;
  });
  start = "0";      // a group that is gone with its key is made anew from the first entry
  let position = "0";      // first what this consumer was given before and did not acknowledge, then what is new
  while (true) {
    const replies = await client.xReadGroup(group, consumer, { key, id: position }, { COUNT: 100, BLOCK: 5000 });
    const entries = replies?.[0].messages ?? [];
    if (entries.length === 0) position = ">";
    for (const { id, message } of entries) {
      if (message?.type === "emotiond.frame.v1") {
        const { faces } = JSON.parse(message.data);
        console.log(message.time, stream, faces.map((face) => face.emotion).join(" "));
      }
      await client.xAck(key, group, id);
    }
  }
}
