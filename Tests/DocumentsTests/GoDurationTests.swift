import Names
import Testing

@Suite("Durations as Go has them")
struct GoDurationTests {
  @Test(
    "They read exactly and print as Go prints them",
    arguments: [
      ("0", "0s"), ("0s", "0s"), ("90s", "1m30s"), ("2m0s", "2m0s"), ("1h", "1h0m0s"), ("1.5h", "1h30m0s"), ("250ms", "250ms"),
      ("1.25s", "1.25s"), ("1m0.5s", "1m0.5s"), ("1500us", "1.5ms"), ("3µs", "3µs"), ("7ns", "7ns"), ("0.1m", "6s"), ("-90s", "-1m30s"),
      (".5s", "500ms"), ("1000h", "1000h0m0s"), ("1h1ms", "1h0m0.001s"),
    ])
  func text(text: String, printed: String) {
    let duration = GoDuration.parse(text)
    #expect(duration.map(GoDuration.text) == printed)
    #expect(GoDuration.parse(printed) == duration)
  }

  @Test("Others are none", arguments: ["", "s", "5", "5 s", "1d", ".s", "1.2.3s", "5s6", "--5s", "9999999999999h", "1e3s", "٣s"])
  func bad(text: String) { #expect(GoDuration.parse(text) == nil) }
}
