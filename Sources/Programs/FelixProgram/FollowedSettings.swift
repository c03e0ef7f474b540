/// Felix's settings as they change: in force at once, and told.
import Calculation
import FelixSettings
import Logging
import Resources

extension FelixAgent {
  /// This host's own sources of settings say something else.
  func adopt(localSettings: [SettingsLayer]) {
    calculation.localSettings = localSettings
    round()
  }
  var settings: FelixConfigurationSpec { calculation.settingsResolution.effective }

  /// After the calculation has seen what arrived.
  func tellSettings() {
    let resolution = calculation.settingsResolution
    guard resolution != settingsTold else { return }
    for line in SettingsReport.news(resolution, after: settingsTold) { log.log(level: line.level, "\(line.text)") }
    settingsTold = resolution
    reporter?.configure(ReportingSettings(resolution.effective))
    flowLog.tellAllowed(configured: resolution.effective.text("flowLogsLocalReporter") == "Enabled")
    hostFiles?.adopt(resolution.effective)
    refreshing.adopt(resolution.effective)
    onSettings?(resolution)
  }
}
