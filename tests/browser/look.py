"""Opens a page of deq report in headless Chromium and prints what is seen there, a fact a line.

    look.py PAGE [PICTURES]      PICTURES: a folder for pictures of the whole page

A fact is a name, a tabulator and a value.
"""
import base64
import json
import os
import sys

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

page = os.path.abspath(sys.argv[1])
pictures = sys.argv[2] if len(sys.argv) > 2 else None


def open_browser():
    options = webdriver.ChromeOptions()
    # A container has no user namespaces, and little shared memory.
    for flag in ["headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu",
                 "hide-scrollbars"]:
        options.add_argument("--" + flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.chrome.service.Service("/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


browser = open_browser()
run = browser.execute_script


def fact(name, value):
    print(f"{name}\t{value}".replace("\n", " | "))


def wait_for_drawing():
    """Charts take the size of their frames, and are drawn again, frames after the page has its
    layout."""
    browser.execute_async_script("""
        const done = arguments[0];
        const wait = (frames) => frames > 0 ? requestAnimationFrame(() => wait(frames - 1)) : done();
        wait(4);""")


def look_at(width, scheme):
    """Sets the width of the window and the colours that a person prefers."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500})
    wait_for_drawing()


def show(element):
    """Scrolls to an element. The page hears of it one frame later, and hides what a pointer showed."""
    run("arguments[0].scrollIntoView({block: 'center'})", element)
    wait_for_drawing()


def take_picture(name, width):
    if pictures is None:
        return
    run("scrollTo(0, 0)")
    wait_for_drawing()
    height = run("return document.documentElement.scrollHeight")
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {
        "captureBeyondViewport": True,
        "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}})
    with open(os.path.join(pictures, name + ".png"), "wb") as file:
        file.write(base64.b64decode(shot["data"]))


def press(section, text):
    for button in browser.find_elements(By.CSS_SELECTOR, section + " button"):
        if button.text == text:
            show(button)
            button.click()
            return
    raise SystemExit(f"no button {text} in {section}")


def count_drawn_pixels(canvas):
    return run("""
        const canvas = arguments[0];
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let drawn = 0;
        for (let i = 3; i < pixels.length; i += 4) drawn += pixels[i] > 0;
        return drawn;""", canvas)


def hover_point(name, dataset, index):
    """Moves the pointer to a point of a chart and gives the lines of the box that then appears."""
    canvas = browser.find_element(By.ID, "chart-" + name)
    show(canvas)
    x, y = run("""
        const chart = Chart.getChart(arguments[0]);
        const point = chart.getDatasetMeta(arguments[1]).data[arguments[2]];
        return [point.x - chart.width / 2, point.y - chart.height / 2];""", canvas, dataset, index)
    ActionChains(browser).move_to_element_with_offset(canvas, round(x), round(y)).perform()
    return run("""
        const { title, body, opacity } = Chart.getChart(arguments[0]).tooltip;
        return opacity > 0 ? [...title, ...body.flatMap((part) => part.lines)] : [];""", canvas)


def hover_token(index):
    span = browser.find_elements(By.CSS_SELECTOR, ".shaded span")[index]
    show(span)
    ActionChains(browser).move_to_element(span).perform()
    tip = browser.find_element(By.ID, "tip")
    return tip.text if tip.is_displayed() else ""


def background(index):
    return run("return getComputedStyle(document.querySelectorAll('.shaded span')[arguments[0]])"
               ".backgroundColor", index)


look_at(1200, "light")
browser.get("file://" + page)
wait_for_drawing()
fact("title", browser.title)
for canvas in browser.find_elements(By.TAG_NAME, "canvas"):
    fact(canvas.get_attribute("id"), count_drawn_pixels(canvas))
fact("images", len(browser.find_elements(By.CSS_SELECTOR, "img, iframe")))
fact("text", run("return document.querySelector('.shaded').textContent"))
fact("hover loss", hover_point("loss", 0, 2))
take_picture("light", 1200)
press("#charts", "Perplexity")
fact("hover perplexity", hover_point("loss", 0, 2))
press("#axis", "Tokens")
fact("hover tokens", hover_point("rate", 0, 2))
fact("surprise", hover_token(3))
fact("surprise colour", background(3))
press("#text", "Evaluations")
fact("evaluations", hover_token(4))
fact("evaluations colour", background(3))
press("#runs", browser.find_elements(By.CSS_SELECTOR, "#runs button")[1].text)
fact("hidden", run("return Chart.getChart('chart-rate').data.datasets.map((set) => set.hidden)"))
look_at(1200, "dark")
fact("dark", run("return getComputedStyle(document.body).backgroundColor"))
take_picture("dark", 1200)
look_at(390, "light")
fact("width", run("return document.documentElement.scrollWidth"))
take_picture("phone", 390)
fact("errors", [entry["message"] for entry in browser.get_log("browser")])
messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
fact("requests", [message["params"]["request"]["url"] for message in messages
                  if message["method"] == "Network.requestWillBeSent"
                  and not message["params"]["request"]["url"].startswith("data:")])
browser.quit()
