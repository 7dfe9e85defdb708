// iovalkey, with no option but the sentinels.
const Redis = require("iovalkey");

console.log("version", require("iovalkey/package.json").version);
const sentinels = process.argv.slice(2).map((each) => {
  const [host, port] = each.split(":");
  return { host, port: Number(port) };
});
const primary = new Redis({ sentinels, name: "mymaster" });
primary.on("error", (error) => console.log("error", error.message));

async function main() {
  for (let number = 1; ; number++) {
    try {
      await primary.rpush("numbers", number);
      console.log("written", number);
    } catch (error) {
      console.log("error", error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

main();
