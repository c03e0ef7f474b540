/// What every Prometheus client tells of its process, under the usual names, from /proc.
import Glibc
public import MetricsText
import Sockets

public enum ProcessMetrics {
  public static func add(to page: inout MetricsPage) {
    guard let line = try? Files.readText("/proc/self/stat"), let end = line.lastIndex(of: ")") else { return }
    // Behind the command's name, which may contain anything; field 3 of proc_pid_stat(5) comes first.
    let fields = line[line.index(after: end)...].split(separator: " ")
    guard fields.count > 21 else { return }
    let ticks = Double(sysconf(Int32(_SC_CLK_TCK)))
    let (user, system) = (Double(fields[11]) ?? 0, Double(fields[12]) ?? 0)
    page.counter("process_cpu_seconds_total", "Time on processors, in seconds.", (user + system) / ticks)
    page.gauge("process_resident_memory_bytes", "Resident memory.", (Double(fields[21]) ?? 0) * Double(sysconf(Int32(_SC_PAGESIZE))))
    page.gauge("process_virtual_memory_bytes", "Virtual memory.", Double(fields[20]) ?? 0)
    page.gauge("process_threads", "Threads.", Double(fields[17]) ?? 0)
    guard let bootTime else { return }
    page.gauge("process_start_time_seconds", "When the process began, since 1970.", bootTime + (Double(fields[19]) ?? 0) / ticks)
  }

  /// In seconds since 1970; the kernel's own word, so that start times of a machine's processes agree.
  private static let bootTime: Double? = (try? Files.readText("/proc/stat"))?.split(separator: "\n")
    .first { $0.hasPrefix("btime ") }.flatMap { Double($0.dropFirst(6)) }
}
