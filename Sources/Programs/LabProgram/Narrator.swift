/// Progress for people: each step on one line, with its time; on a terminal the line of the running step is rewritten when it ends.
import Glibc
import Sockets
import Tables

public final class Narrator {
  public let palette: Palette
  private let isTerminal: Bool
  /// Quiet: nothing but problems (for `-o json`).
  private let quiet: Bool
  public private(set) var times: [(step: String, time: Duration)] = []

  public init(quiet: Bool = false) {
    self.quiet = quiet
    isTerminal = isatty(1) == 1
    let noColour = unsafe getenv("NO_COLOR").map { unsafe $0.pointee != 0 } ?? false
    palette = Palette(coloured: isTerminal && !noColour)
  }

  public func say(_ text: String = "") {
    guard !quiet else { return }
    write(text + "\n")
  }

  public func heading(_ text: String) { say("\n" + palette(text, .bold)) }

  @discardableResult
  public func step<Result>(_ name: String, _ work: () throws -> Result) throws -> Result {
    Interruption.stopHere()
    let started = MonotonicInstant.now
    if isTerminal, !quiet { write("  … \(name)") }
    do {
      let result = try work()
      let time = MonotonicInstant.now - started
      times.append((name, time))
      finish("  \(palette("✓", .green)) \(name)", palette(" " + seconds(time), .dim))
      return result
    } catch {
      Interruption.stopHereIfItWasTheCause()
      finish("  \(palette("✗", .red)) \(name)", "")
      throw error
    }
  }

  private func finish(_ line: String, _ tail: String) {
    guard !quiet else { return }
    write((isTerminal ? "\r\u{1b}[K" : "") + line + tail + "\n")
  }

  private func write(_ text: String) {
    let bytes = Array(text.utf8)
    try? Files.write(bytes, descriptor: 1, name: "standard output")
  }
}

/// `0.42 s`, `12.3 ms`.
public func seconds(_ duration: Duration) -> String {
  let nanoseconds = Double(duration.wholeNanoseconds)
  if nanoseconds < 1e6 { return "\(tenths(nanoseconds / 1e3, 0)) µs" }
  if nanoseconds < 1e8 { return "\(tenths(nanoseconds / 1e6, 1)) ms" }
  return "\(tenths(nanoseconds / 1e9, 2)) s"
}

private func tenths(_ value: Double, _ digits: Int) -> String {
  let scale = [1.0, 10, 100][digits]
  let whole = Int64((value * scale).rounded())
  guard digits > 0 else { return "\(whole)" }
  let rest = String(whole % Int64(scale))
  return "\(whole / Int64(scale)).\(String(repeating: "0", count: digits - rest.count))\(rest)"
}
