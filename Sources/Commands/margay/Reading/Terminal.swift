/// Where the output goes: colour and width are a terminal's alone.
import ArgumentParser
import Datastore
import Datastores
import Glibc
import Sockets
import Tables

struct ColourOptions: ParsableArguments {
  enum Colour: String, ExpressibleByArgument, CaseIterable { case auto, always, never }
  @Option(name: .customLong("color"), help: "Colour: auto (on a terminal, unless NO_COLOR is set), always or never.")
  var colour: Colour = .auto

  var palette: Palette {
    switch colour {
    case .auto: margay.palette()
    case .always: Palette(coloured: true)
    case .never: Palette(coloured: false)
    }
  }
}

/// Columns of the terminal that standard output is; nil for files and pipes.
func terminalWidth() -> Int? {
  guard isatty(1) == 1 else { return nil }
  var size = winsize()
  guard unsafe ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 20 else { return nil }
  return Int(size.ws_col)
}

/// Like `write`, for output that may be long: when its reader has gone (`| head`), there is nothing more to do. As a shell tells a process
/// that SIGPIPE ended; the signal itself is ignored here, since etcd's connection must not end the process.
func emit(_ text: String) {
  if text.isEmpty { return }
  do throws(SystemError) {
    try Files.write(Array(text.utf8), descriptor: 1, name: "standard output")
  } catch {
    if error.code == EPIPE { Glibc.exit(141) }
    writeError("\(error)\n")
    Glibc.exit(74)
  }
}

/// For output that comes now and then: whoever waits for the next change must not outlive its reader (`| head -1`).
func endWithReader() async {
  while true {
    var reader = pollfd(fd: 1, events: 0, revents: 0)
    if unsafe poll(&reader, 1, 0) > 0, reader.revents & Int16(POLLERR) != 0 { Glibc.exit(141) }
    try? await Task.sleep(for: .milliseconds(500))
  }
}

/// A command line that the parser let pass and that means nothing: said in one line, exit code 64.
func misuse(_ text: String) -> ExitCode {
  writeError("Error: \(text)\n")
  return ExitCode(64)
}

/// Exit codes of commands that only read.
enum ReadingExit {
  static let missing = ExitCode(1)
  static let unreachable = ExitCode(2)
}

/// Runs what reads from a datastore; if that does not answer, says so and ends with code 2.
func reading<Value>(_ store: DatastoreOptions, _ body: (any Datastore) async throws -> Value) async throws -> Value {
  let choice = try store.choice()
  do {
    let datastore = try choice.open()
    let value = try await body(datastore)
    await datastore.close()
    return value
  } catch let error as DatastoreError {
    let text = "\(error)"
    writeError(text.contains(choice.name) ? "\(text)\n" : "\(choice.name): \(text)\n")
    throw ReadingExit.unreachable
  } catch let error as ResourceStoreError {
    writeError("\(choice.name): \(error)\n")
    if case .datastore = error { throw ReadingExit.unreachable }
    throw ReadingExit.missing
  }
}
