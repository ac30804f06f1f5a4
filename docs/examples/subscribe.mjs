// Prints emotions as a member of a consumer group: npm install redis && node subscribe.mjs REDIS_URL STREAM
import { hostname } from "node:os";
import { createClient } from "redis";

const [url = "redis://localhost:6379", stream = "lobby"] = process.argv.slice(2);
const key = `emotions:${stream}`, group = "javascript", consumer = hostname();
const client = createClient({ url });
client.on("error", (error) => console.error(error.message));
process.on("SIGTERM", () => process.exit());      // what was not acknowledged comes again
await client.connect();
await client.xGroupCreate(key, group, "$", { MKSTREAM: true }).catch((error) => {
  if (!error.message.startsWith("BUSYGROUP")) throw error;
});
let position = "0";      // first what this consumer was given before and did not acknowledge, then what is new
while (true) {
  try {
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
  } catch (error) {
    if (client.isReady) throw error;
    position = "0";      // the connection was lost, and comes back by itself; a reply may have been lost with it
  }
}
